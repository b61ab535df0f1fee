"""Writes src/unstir/schema.json anew from the dataclasses; run it after changing a setting."""

from __future__ import annotations

import json

from unstir.config import SCHEMA, generate

if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(generate(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(SCHEMA)
