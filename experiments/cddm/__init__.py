"""Context-dependent decisions as text: what a fine-tuned model decides with (Lin 2024)."""
