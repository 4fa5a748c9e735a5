"""The one Transformer, with its fleet axis: forward pass, save, load, slice, export."""
