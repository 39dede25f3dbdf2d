"""What becomes of recorded answers and of labels, where a test does not ask for it."""


class Uncounted:
    def recorded(self, outcome, answers):
        pass

    def labelled(self, verdict, labels):
        pass
