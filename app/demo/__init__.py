"""A reference component and holder that use the SDK wheel and nothing else of ours."""
