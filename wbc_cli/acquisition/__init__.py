"""Acquisitions: pictures that one camera took at one microscope, which share their scale and their light."""
