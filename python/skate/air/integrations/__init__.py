"""Other people's trackers of experiments: mlflow.py."""
