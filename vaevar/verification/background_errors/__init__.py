"""Tables and figures that compare samples of background errors."""
