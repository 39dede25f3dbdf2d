"""Classes that labels call otherwise than members do: what says so, and when answers follow.

``likely`` is what is kept of rows, ``renamings`` the Bayes filter over what each class is called now, ``reading`` how
labels are read by that, ``suspicions`` the tests that must hold before an answer is changed.
"""
