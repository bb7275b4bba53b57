"""Makes digits.bin from the copy of the UCI digits that scikit-learn's wheel carries.

    pip download --no-deps scikit-learn && unzip scikit_learn-*.whl sklearn/datasets/data/digits.csv.gz
    python make_digits.py sklearn/datasets/data/digits.csv.gz digits.bin

Each line of the table is 64 pixels of 0..16, row by row, and the label; each record of
digits.bin is the same 65 numbers as bytes, in the same order.
"""

import gzip
import sys

with gzip.open(sys.argv[1], "rt") as table:
    records = [bytes(int(float(cell)) for cell in line.split(",")) for line in table]
assert len(records) == 1797 and all(len(record) == 65 for record in records)
with open(sys.argv[2], "wb") as binary:
    binary.write(b"".join(records))
