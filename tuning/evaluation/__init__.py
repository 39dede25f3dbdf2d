"""Is it worth it? The verdict, and the page that shows it."""
