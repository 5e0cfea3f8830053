"""Tables and figures from what a pass left."""
