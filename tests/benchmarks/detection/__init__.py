"""How well the engine detects: scripted approaches and lives lived apart, through the engine itself."""
