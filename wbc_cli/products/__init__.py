"""What people use: tables, masks, pictures, and the run folder that holds them."""
