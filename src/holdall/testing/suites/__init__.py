"""The tests of `StoreSuite`, by what they are about."""
