"""Environments that run by themselves and ask for actions: ExternalEnv and the policy server.

recorder.py keeps their episodes and acts for them; workers.py has what a trainer gets instead of a
WorkerSet; frames.py is the wire format between policy_client.py and policy_server_input.py (in
skate.rllib.env), server.py its other end.
"""
