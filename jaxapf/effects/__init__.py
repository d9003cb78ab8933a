"""Time-varying effects, one a module: `synth`. Import the module you want; this package imports nothing."""
