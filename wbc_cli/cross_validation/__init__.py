"""How good the recipe is in laboratories that a model has not seen."""
