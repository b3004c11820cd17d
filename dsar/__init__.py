"""The law of data-subject requests: pure Python, imports `consent` only.

Cases, lines, the clock of GDPR art. 12(3), identity levels, one file per right, the erasure matrix and the package
manifest. Does no I/O: calendars, clocks and stores are passed in.
"""
