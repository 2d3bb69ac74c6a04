"""MLflowLoggerCallback by the name that it has beside Tune's other loggers."""

from skate.air.integrations.mlflow import MLflowLoggerCallback

__all__ = ["MLflowLoggerCallback"]
