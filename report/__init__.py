"""A run as something to look at: the page, figures for papers, notebook views."""
