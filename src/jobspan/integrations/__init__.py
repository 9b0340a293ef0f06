"""Other libraries served: what they call themselves runs where jobspan's settings say."""
