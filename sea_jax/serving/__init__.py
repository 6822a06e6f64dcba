"""A service over a recommender: questions and answers, the web application, its page. NumPy alone, no JAX."""
