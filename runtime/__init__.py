"""The runtime: artifacts to arrays; needs numpy alone and no compiler."""
