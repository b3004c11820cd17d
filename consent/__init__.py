"""The law of consent and of the processor list: pure Python, standard library only.

Names who may read which category of a subject's data, for which purpose, on which legal basis and until when
(GDPR arts 4(11), 6, 7, 28). Knows nothing of databases, HTTP, keys or clocks: what it needs is passed in.
"""
