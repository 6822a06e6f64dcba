"use strict";
// The page's state is its address: #user=ID, or #items=ID&items=ID (a basket), or #similar=ID; and the wishes beside it.

const at = (id) => document.getElementById(id);

function element(tag, fields = {}, ...children) {
  const made = Object.assign(document.createElement(tag), fields);
  made.append(...children);
  return made;
}

async function asked(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const answer = await fetch(path, { ...options, headers: { ...options.headers, ...(token && { authorization: `Bearer ${token}` }) } });
  at("token").hidden = answer.status !== 401;
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({ error: `The service answered ${answer.status}.` }));
  throw new Error(error);
}

const json = async (path, options) => (await asked(path, options)).json();

function tell(words, wrong = false) {
  at("status").textContent = words;
  at("status").classList.toggle("wrong", wrong);
}

const nameOf = (shown) => shown.title || String(shown.item);

function picture(shown) {
  const image = element("img", { alt: "" });
  asked(shown.picture).then(async (answer) => {
    image.onload = () => URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(await answer.blob());
  }).catch(() => image.remove());
  return image;
}

// State

const state = () => new URLSearchParams(location.hash.slice(1));

function go(change) {
  const next = state();
  change(next);
  location.hash = next;
}

const choose = (name, values) => go((next) => {
  for (const one of ["user", "items", "similar"]) next.delete(one);
  for (const value of values) next.append(name, value);
});

const add = (id) => choose("items", [...new Set([...state().getAll("items"), String(id)])]);

const drop = (id) => choose("items", state().getAll("items").filter((one) => one !== id));

// Lists

function why(reason) {
  const rows = Object.entries(reason.parts).map(([name, share]) =>
    element("tr", {}, element("td", { textContent: name.replaceAll("_", " ") }), element("td", { textContent: share.toFixed(3) })));
  const details = element("details", {}, element("summary", { textContent: "Why" }),
    element("table", {}, element("tbody", {}, ...rows)));
  if (reason.nearest.length) {
    const near = reason.nearest.map((one) => element("tr", {},
      element("td", { textContent: nameOf(one) }), element("td", { textContent: one.likeness.toFixed(3) })));
    details.append(element("p", { className: "quiet", textContent: "Nearest of what was seen:" }),
      element("table", {}, element("tbody", {}, ...near)));
  }
  return details;
}

function card(entry, place) {
  const facts = [String(entry.item), entry.category, `score\u00a0${entry.score.toFixed(3)}`].filter(Boolean).join(" · ");
  const made = element("li", { className: entry.picture ? "" : "bare" });
  if (entry.picture) made.append(picture(entry));
  made.append(element("h3", { textContent: nameOf(entry) }), element("p", { className: "quiet", textContent: facts }));
  if (entry.why) made.append(Object.assign(why(entry.why), { open: place === 0 }));
  const named = (words, does) => element("button", { type: "button", textContent: words, ariaLabel: `${words}: ${nameOf(entry)}`, onclick: does });
  made.append(element("div", { className: "row" },
    named("Similar", () => choose("similar", [entry.item])), named("Add to basket", () => add(entry.item))));
  return made;
}

function chip(shown, words, does) {
  const made = element("button", { type: "button", className: "chip", onclick: does, ariaLabel: `${words} ${nameOf(shown)}` });
  if (shown.picture) made.append(picture(shown));
  made.append(nameOf(shown), words === "Remove" ? " ×" : "");
  return made;
}

function people(title, note, chips) {
  at("who").replaceChildren(element("h2", { textContent: title }), element("p", { className: "quiet", textContent: note }),
    element("div", { className: "row" }, ...chips));
}

async function userList(user, wishes) {
  const query = new URLSearchParams({ user, ...wishes });
  const [list, seen] = await Promise.all([json(`/recommend?${query}`), json(`/users/${encodeURIComponent(user)}?k=12`)]);
  return [list, () => people(`For user ${user}`, `has seen ${seen.seen} items${seen.seen > 12 ? ", among them" : ""}:`,
    seen.items.map((one) => chip(one, "Similar to", () => choose("similar", [one.item]))))];
}

async function basketList(items, wishes) {
  const body = JSON.stringify({ items, ...wishes });
  const post = { method: "POST", body, headers: { "content-type": "application/json" } };
  const [list, ...shown] = await Promise.all([json("/recommend", post), ...items.map((id) => json(`/items/${encodeURIComponent(id)}`))]);
  return [list, () => people("For a basket", "of", shown.map((one, n) => chip(one, "Remove", () => drop(items[n]))))];
}

async function similarList(item, { k }) {
  const [list, shown] = await Promise.all([json(`/similar?${new URLSearchParams({ item, k })}`), json(`/items/${encodeURIComponent(item)}`)]);
  return [list, () => people("Similar items", `to an item that ${shown.seen_by} have seen; scores are cosines`,
    [chip(shown, "Add to basket", () => add(shown.item))])];
}

let latest = 0;

async function show() {
  const now = state(), mine = ++latest, form = at("wishes").elements;
  for (const name of ["k", "diversity"]) if (now.has(name)) form[name].value = now.get(name);
  for (const name of ["exclude_seen", "explain"]) form[name].checked = now.get(name) !== "false";
  const wishes = { k: Number(form.k.value), diversity: Number(form.diversity.value), exclude_seen: form.exclude_seen.checked, explain: form.explain.checked };
  const items = now.getAll("items");
  const asks = now.has("user") ? userList(now.get("user"), wishes)
    : items.length ? basketList(items, wishes)
    : now.has("similar") ? similarList(now.get("similar"), wishes) : null;
  if (!asks) {
    at("who").replaceChildren();
    at("list").replaceChildren();
    return tell("Choose a user, or items for a basket.");
  }
  try {
    const [list, who] = await asks;
    if (mine !== latest) return;
    who();
    at("list").replaceChildren(...list.items.map(card));
    tell(list.items.length ? "" : "No item is left to recommend.");
  } catch (error) {
    if (mine !== latest) return;
    at("list").replaceChildren();
    tell(error.message, true);
  }
}

// Searches

function search(kind, fill) {
  const input = at(`${kind}-search`);
  let asking = 0;
  const find = async () => {
    const mine = ++asking;
    try {
      const found = await json(`/${kind}s?${new URLSearchParams({ search: input.value, limit: 8 })}`);
      if (mine !== asking) return;
      at(`${kind}-found`).replaceChildren(...found[`${kind}s`].map((one) =>
        element("li", {}, element("button", { type: "button", onclick: () => fill(one), textContent: kind === "user" ? one.user : one.title ? `${one.title} · ${one.item}` : one.item }))));
    } catch (error) {
      tell(error.message, true);
    }
  };
  input.addEventListener("input", find);
  return find;
}

const searches = [
  search("user", (one) => choose("user", [one.user])),
  search("item", (one) => add(one.item)),
];

async function start() {
  const health = await json("/health");
  const of = [health.dataset, health.backbone].filter(Boolean).join(", ");
  at("about").textContent = `${of && `${of}: `}${health.users.toLocaleString("en")} users, ${health.items.toLocaleString("en")} items`;
  const preset = state().get("search");
  if (preset) at("user-search").value = preset;
  await Promise.all([...searches.map((find) => find()), show()]);
}

at("wishes").addEventListener("change", (event) => {
  const field = event.target;
  if (field.checkValidity()) go((next) => next.set(field.name, field.type === "checkbox" ? field.checked : field.value));
});
at("wishes").addEventListener("submit", (event) => event.preventDefault());
at("token").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", at("token").querySelector("[type=password]").value);
  start().catch((error) => tell(error.message, true));
});
window.addEventListener("hashchange", show);
start().catch((error) => tell(error.message, true));
