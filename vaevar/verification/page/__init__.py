"""What the pages of all reports share: sections, figures as HTML, maps, and the page around them."""
