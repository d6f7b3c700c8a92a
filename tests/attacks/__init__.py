"""The attack corpus: sixty ways to make an SRE's assistant do harm, each driven through the surface where it would arrive."""
