"""What people read: the matrix as a table in the terminal."""
