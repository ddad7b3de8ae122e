"""The run's files -> index.html, and the picture files that training leaves for it.

`duel.report.page.write_report` writes the page; `duel.report.images` writes sheets and animations. Nothing
here imports torch or Ray: a report can be made again anywhere from a copied run folder.
"""
