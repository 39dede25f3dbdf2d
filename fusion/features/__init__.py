"""Rules over members' feature vectors, trained with the head that reads them."""
