"""What the documents and the template say of providers, made from the providers themselves: `make docs`."""
