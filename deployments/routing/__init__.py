"""A member as the fusion sees it: its replicas, who is asked, what is retried, who is left out."""
