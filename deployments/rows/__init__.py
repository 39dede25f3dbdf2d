"""Rows from whatever holds them: files, folders, frames, arrays; each column as the spec's datatype, judged by value.

Every command that reads rows reads them here, so that the same bytes reach a member online and offline. Missing values
have one meaning: in a floating-point input NaN, in BYTES the empty string; integers and BOOL have none.
"""
