"""The project's own errors: each says what was wrong, what was seen and what to do."""


class InductionKitError(Exception):
    """Base of every error that inductionkit raises on purpose."""


class RunError(InductionKitError):
    """A training run or one of its checkpoints is missing, damaged or inconsistent."""


class ModelError(InductionKitError):
    """A model cannot be scored, or does not fit what is asked of it."""


class HistoryError(InductionKitError):
    """A history does not have the variables, dimensions or settings that are needed."""


class RecipeError(InductionKitError):
    """A training recipe or the corpus it names cannot be used."""
