"""Capabilities learned from text: corpora made by program, questions with answers, text models' training."""
