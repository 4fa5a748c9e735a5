"""Children's stories with features that a program can check, in the form of TinyStories-Instruct."""
