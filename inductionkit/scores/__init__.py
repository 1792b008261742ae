"""The scores of attention heads: arithmetic on tensors, and how their results are read.

`on_prompts` and `from_weights` are the scores, `prompts` and `fuzzy` the tokens they are measured on, and `icl` is the
in-context-learning score. `head_scores` and `heads` show and judge what a scan found, without torch.
"""
