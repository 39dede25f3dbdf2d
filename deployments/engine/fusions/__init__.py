"""One fusion of the graph: whom it asks, which rows came, and what it makes of them."""
