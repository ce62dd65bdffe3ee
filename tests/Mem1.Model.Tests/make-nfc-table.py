"""Writes Mem1.Model/Tokenizers/nfc.txt and the cases that test it, from the Unicode tables of Python's unicodedata.
usage, in the repository root: python3 tests/Mem1.Model.Tests/make-nfc-table.py"""
import json
import random
import unicodedata as u

every = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
lines = [f"# Canonical decompositions and combining classes, derived from the Unicode Character Database {u.unidata_version}",
         "# (Unicode License V3). code=parts; ! marks those never composed. Then combining classes: first-last:class. By make-nfc-table.py."]
decompositions = []
for ch in every:
    d = u.decomposition(ch)
    if d and not d.startswith("<"):
        excluded = u.normalize("NFC", "".join(chr(int(x, 16)) for x in d.split())) != ch
        decompositions.append(f"{'!' if excluded else ''}{ord(ch):X}={d.replace(' ', '+')}")
classes, run = [], None
for ch in every:
    k = u.combining(ch)
    if run and k == run[2] and ord(ch) == run[1] + 1:
        run[1] = ord(ch)
        continue
    if run:
        classes.append(run)
    run = [ord(ch), ord(ch), k] if k else None
if run:
    classes.append(run)
with open("Mem1.Model/Tokenizers/nfc.txt", "w", encoding="ascii") as out:
    out.write("\n".join(lines) + "\n")
    for at in range(0, len(decompositions), 12):
        out.write(" ".join(decompositions[at:at + 12]) + "\n")
    out.write("\n")
    items = [f"{a:X}-{b:X}:{k}" for a, b, k in classes]
    for at in range(0, len(items), 12):
        out.write(" ".join(items[at:at + 12]) + "\n")

random.seed(1)
interesting = [c for c in every if u.combining(c) or u.decomposition(c)] + [chr(c) for c in range(0x1100, 0x1200)]
cases = [[c, u.normalize("NFC", c)] for c in every if u.normalize("NFC", c) != c or u.normalize("NFC", u.normalize("NFD", c)) != c]
while len(cases) < 2500:
    base = "".join(random.choice("aeiouAcnszkΑωиक가각") if random.random() < .5 else random.choice(interesting) for _ in range(random.randint(1, 6)))
    text = u.normalize(random.choice(["NFC", "NFD"]), base) if random.random() < .5 else base
    cases.append([text, u.normalize("NFC", text)])
with open("tests/Mem1.Model.Tests/data/nfc-cases.json", "w", encoding="ascii") as out:
    json.dump(cases, out, separators=(",", ":"))
