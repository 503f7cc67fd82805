"""What should happen to a request, and what does it cost?

Pure and synchronous: facts in, decisions out, the time passed in. The nouns: `Deployment`, `Price`,
`TokenUsage`, `Budget`, `RouteDecision`, `SpendRecord`. All money is integer nano-USD.
"""
