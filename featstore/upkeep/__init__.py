"""Looking after a store, each in its own room: a listing need not wait for what the others import.

``summary`` says what there is, ``verify`` whether it is as it was written, ``gc`` removes what nobody needs, ``purge``
deletes for good, ``publications`` tells what was published when, ``doctor`` checks the machine.
"""
