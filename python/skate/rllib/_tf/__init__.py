"""Algorithms over models of the user's own in TensorFlow 2.

engine.py has TFEngine, ModelEngine (skate.rllib._models) in TensorFlow; model.py makes one face of
TFModelV2 and plain keras.Model; ops.py has the operations of distributions and losses. Nothing
outside this folder, the classes in models/tf and try_import_tf() imports TensorFlow, and this
folder is imported only when a config names a custom model of it.
"""

import os

# Read when TensorFlow is first imported. Without oneDNN's kernels the same seed gives the same
# numbers for any number of threads.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
