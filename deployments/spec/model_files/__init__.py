"""What stands in the files of models, read without the libraries that run them: mistakes are told within a second."""
