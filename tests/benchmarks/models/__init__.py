"""The same model in each library, as that library's documentation says to write it."""
