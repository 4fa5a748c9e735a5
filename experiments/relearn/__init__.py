"""The relearning evaluation: is a capability gone from a language model, or soon back after training?"""
