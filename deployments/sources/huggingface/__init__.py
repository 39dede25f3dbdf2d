"""Folders that transformers' ``save_pretrained`` wrote; each kind of model has a file that reads what it is asked."""
