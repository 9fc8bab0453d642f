"""Tables with named columns that users hand in, as Windows, Excel and Unix tools write them."""
