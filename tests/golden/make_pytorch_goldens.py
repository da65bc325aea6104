#!/usr/bin/env python3
"""Makes tests/golden/pytorch: small files as torch.save writes them, read by tests/models/pytorch_file_test.cpp.

Needs torch (2.5.1 was used). Every tensor counts up from a number of its own, so that the test knows what it holds:

  every_type.bin   a tensor of each element type, a view with an offset, two names of one storage, a scalar, a parameter
                   and an entry that is no tensor
  sharded/         two files and their index
  transposed.bin   a tensor whose elements stand in another order
  whole_model.bin  a module with code of its own
  old.bin          the form from before PyTorch 1.6
"""
import collections
import json
import os

import torch

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pytorch")


def count(begin, *shape, dtype=torch.float32):
    return torch.arange(begin, begin + torch.Size(shape).numel(), dtype=torch.float32).reshape(shape).to(dtype)


def make():
    os.makedirs(os.path.join(HERE, "sharded"), exist_ok=True)
    types = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64,
             "i64": torch.int64, "i32": torch.int32, "i16": torch.int16, "i8": torch.int8, "u8": torch.uint8,
             "bool": torch.bool}
    state = collections.OrderedDict((name, count(i, 2, 3, dtype=kind)) for i, (name, kind) in enumerate(types.items()))
    base = count(100, 4, 5)
    state["view"] = base[1:3]
    state["tied.a"] = base
    state["tied.b"] = base
    state["scalar"] = torch.tensor(7.0)
    state["parameter"] = torch.nn.Parameter(count(50, 3))
    state["steps"] = 12
    torch.save(state, os.path.join(HERE, "every_type.bin"))
    names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    for i, name in enumerate(names):
        torch.save({f"layer.{i}": count(10 * i, 2, 2)}, os.path.join(HERE, "sharded", name))
    with open(os.path.join(HERE, "sharded", "pytorch_model.bin.index.json"), "w") as f:
        json.dump({"metadata": {}, "weight_map": {f"layer.{i}": name for i, name in enumerate(names)}}, f)
    torch.save({"t": count(0, 2, 3).t()}, os.path.join(HERE, "transposed.bin"))
    torch.save({"module": torch.nn.Linear(2, 2)}, os.path.join(HERE, "whole_model.bin"))
    torch.save({"t": count(0, 2)}, os.path.join(HERE, "old.bin"), _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    make()
