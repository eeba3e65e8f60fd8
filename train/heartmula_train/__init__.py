"""Training kit of heartmula.cpp: the models in PyTorch, synthetic music, and the stages that train a checkpoint.

Floors, as in the C++ tree: text -> lm -> sampling -> codec -> song; beside them music (songs and their analyzer) and
stages (training). Parameter names are those of the official checkpoints.
"""
