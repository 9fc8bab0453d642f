"""Whether microscope, stain and model stay as they were: control charts of what every slide's record has."""
