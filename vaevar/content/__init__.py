"""What files hold: told apart by digests, and read without trusting them."""
