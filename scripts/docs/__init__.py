"""`make docs`: what the documents, the template and the samples hold of providers and routes, made from the code."""
