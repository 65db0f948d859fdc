"""Verification: is a completion's answer right? One verdict per sample; equal answers are judged once."""
