"""The async faces of stores."""
