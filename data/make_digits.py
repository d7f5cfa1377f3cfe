"""Makes digits.bin from scikit-learn's digits.csv.gz; README.md has the format and the rule of the split.

usage: python3 make_digits.py digits.csv.gz digits.bin
"""
import collections
import gzip
import struct
import sys

TEST_OF_EACH_CLASS = 36

with gzip.open(sys.argv[1], "rt") as file:
    images = [bytes(int(float(value)) for value in line.split(",")) for line in file]  # 64 pixels, label

size = collections.Counter(image[64] for image in images)
seen = collections.Counter()
train, test = [], []
for image in images:
    label = image[64]
    before = seen[label] * TEST_OF_EACH_CLASS // size[label]
    seen[label] += 1
    after = seen[label] * TEST_OF_EACH_CLASS // size[label]
    (test if after > before else train).append(image)

content = struct.pack("<8s5I", b"HDLDIGIT", 1, len(train), len(test), 64, len(size)) + b"".join(train + test)
checksum = 0xCBF29CE484222325
for byte in content:
    checksum = (checksum ^ byte) * 0x100000001B3 % 2**64

with open(sys.argv[2], "wb") as file:
    file.write(content + struct.pack("<Q", checksum))
